"""What SOAP adds to the rooms of HTTP: envelopes, faults and the values of its types."""
