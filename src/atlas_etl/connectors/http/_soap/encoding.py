"""The schema of SOAP 1.1's encoding (section 5), which WSDLs of RPC style import and none has over https.

https://www.w3.org/TR/2000/NOTE-SOAP-20000508/#_Toc478383512
"""

from __future__ import annotations

from typing import Final

ENCODING: Final = "http://schemas.xmlsoap.org/soap/encoding/"
_SIMPLE = (
    "string", "boolean", "float", "double", "decimal", "duration", "dateTime", "time", "date", "hexBinary",
    "base64Binary", "anyURI", "normalizedString", "token", "integer", "nonPositiveInteger", "negativeInteger",
    "long", "int", "short", "byte", "nonNegativeInteger", "unsignedLong", "unsignedInt", "unsignedShort",
    "unsignedByte", "positiveInteger",
)  # fmt: skip
_VALUE = """
<complexType name="{0}"><simpleContent><extension base="{0}">
  <attributeGroup ref="enc:commonAttributes"/>
</extension></simpleContent></complexType>
<element name="{0}" type="enc:{0}"/>"""
SCHEMA: Final = f"""
<schema xmlns="http://www.w3.org/2001/XMLSchema" xmlns:enc="{ENCODING}" targetNamespace="{ENCODING}">
<attribute name="arrayType" type="string"/>
<attribute name="offset" type="string"/>
<attributeGroup name="commonAttributes">
  <attribute name="id" type="ID"/>
  <attribute name="href" type="anyURI"/>
  <anyAttribute namespace="##other" processContents="lax"/>
</attributeGroup>
<complexType name="Array">
  <sequence><any namespace="##any" minOccurs="0" maxOccurs="unbounded" processContents="lax"/></sequence>
  <attribute ref="enc:arrayType"/>
  <attribute ref="enc:offset"/>
  <attributeGroup ref="enc:commonAttributes"/>
</complexType>
<element name="Array" type="enc:Array"/>{"".join(map(_VALUE.format, _SIMPLE))}
</schema>""".strip().encode()
