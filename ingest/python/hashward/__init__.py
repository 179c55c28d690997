"""Client of Hashward: exact matching of known abuse imagery.

`Client` looks up and submits hashes over the binary protocol; `Admin` curates banks over HTTP.
"""

from ._admin import Admin, AdminError
from ._client import Client, OutcomeUnknown, Refused, new_request_id
from ._wire import Answer, Context, Hit, Match, Receipt, Verdict, Welcome

__all__ = [
    "Admin",
    "AdminError",
    "Answer",
    "Client",
    "Context",
    "Hit",
    "Match",
    "OutcomeUnknown",
    "Receipt",
    "Refused",
    "Verdict",
    "Welcome",
    "new_request_id",
]
