"""Secrets at rest and from elsewhere: sealed with the project's key, or asked for where others keep them.

sealing      a value to a token and back, by a ring of keys
keys         where the ring is: ATLAS_SECRET_KEY, the operating system's keyring, .atlas/secret.key
file         the tokens in .atlas/secrets.json; in PostgreSQL they are a table of `state`
store        both together: get, set, list, remove, rotate
elsewhere    what the other kinds of references stand for: keyring, command, vault, aws, gcp

cryptography and the vendors' clients are imported where they are used: most commands need none.
"""
