"""Our credentials as Faust objects, from which its driver makes aiokafka's arguments again."""

from __future__ import annotations

from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials

from mdstream.config.cluster import Security
from mdstream.kafka.security import security_options


def credentials(security: Security) -> Credentials | None:
    """The credentials of Faust's clients; None without security. Raises SettingsError if a file cannot be used."""
    given = security_options(security)
    context = given["ssl_context"]
    if not security.sasl:
        return None if context is None else SSLCredentials(context)
    if provider := given.get("sasl_oauth_token_provider"):
        return OAuthCredentials(oauth_cb=provider, ssl_context=context)
    return SASLCredentials(
        username=given["sasl_plain_username"],
        password=given["sasl_plain_password"],
        ssl_context=context,
        mechanism=security.sasl_mechanism,
    )
