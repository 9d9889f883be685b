"""The authorization servers, by name. Each is a class with the methods of `server.Server`."""

from .glewlwyd import Glewlwyd
from .hydra import Hydra
from .keycloak import Keycloak
from .oidc_provider import OidcProvider

ALL = {server.NAME: server for server in (OidcProvider, Glewlwyd, Keycloak, Hydra)}
