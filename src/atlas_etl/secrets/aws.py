"""`${aws-sm:NAME}` and `${aws-sm:NAME#FIELD}`: AWS Secrets Manager, by the package `boto3`.

https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
"""

from __future__ import annotations

import logging

from atlas_etl.errors import ConfigError
from atlas_etl.secrets.packages import imported
from atlas_etl.secrets.vendors import MOST_ATTEMPTS, SECONDS, failed, member, missing, parts_of, refused

_KIND, _EXAMPLE = "aws-sm", "shop/database#password"
_NAME = "AWS Secrets Manager"
_REFUSED = ("AccessDenied", "UnrecognizedClient", "InvalidClientTokenId", "ExpiredToken", "DecryptionFailure")
_TELLING = ("botocore.parsers", "botocore.endpoint", "botocore.auth", "botocore.hooks")


def aws_secret(written: str) -> str:
    """The secret's current value. Region and credentials are found as AWS's own command line finds them.

    Raises ConfigError, MissingDriverError.
    """
    place, field = parts_of(written, _KIND, _EXAMPLE)
    boto3, config = imported("boto3", _KIND), imported("botocore.config", _KIND)
    errors = imported("botocore.exceptions", _KIND)
    for name in _TELLING:  # what they log at DEBUG holds answers and what signatures are of
        logging.getLogger(name).setLevel(logging.INFO)
    region = place.split(":")[3] if place.startswith("arn:") and place.count(":") >= 6 else None
    limits = config.Config(
        connect_timeout=SECONDS, read_timeout=SECONDS, retries={"total_max_attempts": MOST_ATTEMPTS}
    )
    try:
        client = boto3.session.Session().client("secretsmanager", region_name=region, config=limits)
        answer = client.get_secret_value(SecretId=place)
    except errors.ClientError as failure:
        raise _refusal(str(failure.response.get("Error", {}).get("Code", "")), place) from None
    except (errors.BotoCoreError, ValueError) as failure:
        hint = "check AWS_REGION (or AWS_PROFILE) and the credentials: aws sts get-caller-identity"
        raise failed(_NAME, type(failure).__name__, hint) from None
    text = answer.get("SecretString")
    if text is None:
        try:
            text = answer["SecretBinary"].decode()
        except (KeyError, UnicodeDecodeError):
            raise ConfigError(f"the secret {place!r} is no UTF-8 text", code="missing_secret") from None
    return member(text, field, place)


def _refusal(code: str, place: str) -> ConfigError:
    if code == "ResourceNotFoundException":
        return missing(_NAME, place, "check its name, the region and the account")
    if code.startswith(_REFUSED):
        return refused(_NAME, place, "see that the credentials allow secretsmanager:GetSecretValue")
    return failed(_NAME, code or "an answer without a code", "check the secret's name or ARN")
