"""The Kubernetes API as a serving target needs it: apply server-side, look, delete; any kind, raw JSON.

Raw, because the client's classes refuse what they do not know, and no cluster has their version. An API server that is
away is waited for, a little.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tenacity

from include.errors import UserError, clip
from include.targets.contract import TargetError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Record = dict[str, Any]

#: Who applies; fields that somebody else set belong to another manager.
MANAGER, SCALER = "windtunnel", "windtunnel-scale"
_APPLY, _MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
_PATIENCE_SECONDS = 30.0
_ASK_SECONDS = 10.0
_TAIL_LINES = 200
_OK, _CREATED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _TOO_MANY, _SERVER_ERROR = 200, 201, 403, 404, 409, 429, 500
_INVALID = frozenset({400, 415, 422})
_RIGHTS = "the account needs the rights of the Role windtunnel-serving (docker/kubernetes/access.yaml)"


@dataclass(frozen=True)
class Applied:
    """What became of one object.

    Attributes:
        changed: It is not as it was before.
        taken_back: Fields that somebody else had set to something else.
    """

    changed: bool
    taken_back: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """Status and body of a response."""

    status: int
    body: Record

    @property
    def message(self) -> str:
        """What the API says, without its envelope."""
        return clip(self.body.get("message") or self.body, 400)


class KubernetesApi:
    """Objects of one namespace.

    Args:
        client: Of the package `kubernetes`.
        patience_seconds: For how long an API server is waited for.
    """

    def __init__(self, client: ApiClient, namespace: str, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self.namespace = namespace
        self._client, self._patience = client, patience_seconds
        self._known: dict[str, dict[str, str]] = {}

    @classmethod
    def connect(cls, namespace: str, context: str | None = None) -> KubernetesApi:
        """By the kubeconfig (`KUBECONFIG`, `~/.kube/config`), and in a pod by its account.

        Raises:
            UserError: There is neither, or no such context.
        """
        from kubernetes import client, config

        configuration, file = client.Configuration(), os.environ.get("KUBECONFIG")
        try:
            if file or context or "KUBERNETES_SERVICE_HOST" not in os.environ:
                config.load_kube_config(file, context=context, client_configuration=configuration)
            else:
                config.load_incluster_config(client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            hint = "set KUBECONFIG, or run in the cluster with an account"
            raise UserError(f"no way to a Kubernetes cluster: {error}", where="KUBECONFIG", hint=hint) from error
        return cls(client.ApiClient(configuration), namespace)

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether the cluster has this kind in this version."""
        return kind in self._kinds(api_version)

    def apply(self, manifest: Mapping[str, Any]) -> Applied:
        """Makes the fields that the manifest names what it says, and leaves all others to whom they belong.

        Raises:
            UserError: The API refuses the manifest, or the object is somebody else's.
        """
        path, where = (
            self._path(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]),
            _name(manifest),
        )
        before = self._ask("GET", path)
        _refuse_foreign(manifest, before)
        first = self._ask("PATCH", path, manifest, _APPLY, fieldManager=MANAGER, force="false")
        taken: tuple[str, ...] = ()
        if first.status == _CONFLICT:
            taken = tuple(f"{where}: {said}" for said in _conflicts(first))
            first = self._ask("PATCH", path, manifest, _APPLY, fieldManager=MANAGER, force="true")
        self._check(first, "apply", where)
        return Applied(_content(before.body) != _content(first.body), taken)

    def patch(self, api_version: str, kind: str, name: str, changes: Mapping[str, Any]) -> None:
        """Changes fields that no manifest names, such as the number of replicas."""
        answer = self._ask("PATCH", self._path(api_version, kind, name), changes, _MERGE, fieldManager=SCALER)
        self._check(answer, "change", f"{kind} {name}")

    def get(self, api_version: str, kind: str, name: str) -> Record | None:
        """The object; None where there is none."""
        answer = self._ask("GET", self._path(api_version, kind, name))
        if answer.status == _NOT_FOUND:
            return None
        return self._check(answer, "read", f"{kind} {name}").body

    def find(self, api_version: str, kind: str, labels: Mapping[str, str]) -> list[Record]:
        """The objects with these labels; none where the cluster does not know the kind."""
        if not self.knows(api_version, kind):
            return []
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        answer = self._ask("GET", self._path(api_version, kind), labelSelector=selector)
        return list(self._check(answer, "list", kind).body["items"])

    def delete(self, api_version: str, kind: str, name: str) -> bool:
        """Deletes the object, and in the background what belongs to it; False where there was none."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        answer = self._ask("DELETE", self._path(api_version, kind, name), body, "application/json")
        if answer.status == _NOT_FOUND:
            return False
        self._check(answer, "delete", f"{kind} {name}")
        return True

    def tail(self, pod: str, container: str, *, previous: bool) -> list[str]:
        """The last lines of a pod's log; of its container before this one where `previous`."""
        query = {"container": container, "tailLines": str(_TAIL_LINES), "previous": str(previous).lower()}
        status, data = self._send("GET", f"{self._path('v1', 'Pod', pod)}/log", None, "", query)
        return data.decode("utf-8", "replace").splitlines() if status == _OK else []

    def _kinds(self, api_version: str) -> dict[str, str]:
        """Kind -> the name of its resource, for one API version; empty where the cluster does not have it."""
        if api_version not in self._known:
            answer = self._ask("GET", _root(api_version))
            found = answer.body.get("resources") or [] if answer.status == _OK else []
            self._known[api_version] = {item["kind"]: item["name"] for item in found if "/" not in item["name"]}
        return self._known[api_version]

    def _path(self, api_version: str, kind: str, name: str = "") -> str:
        resource = self._kinds(api_version).get(kind)
        if resource is None:
            raise TargetError(f"the cluster does not know {kind} in {api_version}", where=self.namespace)
        return f"{_root(api_version)}/namespaces/{self.namespace}/{resource}" + (f"/{name}" if name else "")

    def _check(self, answer: Answer, what: str, where: str) -> Answer:
        if answer.status in (_OK, _CREATED, 202):
            return answer
        place, said = f"namespace {self.namespace}, {where}", answer.message
        if answer.status == _FORBIDDEN and "exceeded quota" not in said:
            raise TargetError(f"Kubernetes does not let us {what} it: {said}", where=place, hint=_RIGHTS)
        if answer.status == _NOT_FOUND and "namespaces" in said:
            raise UserError(f"there is no namespace {self.namespace}", where=place, hint="make it, with its secret")
        if answer.status in _INVALID:
            hint = "look at the serving spec (WINDTUNNEL_SERVING_SPEC), at `pod` in particular"
            raise UserError(f"Kubernetes refuses it: {said}", where=place, hint=hint)
        raise TargetError(f"cannot {what} it ({answer.status}): {said}", where=place)

    def _ask(self, method: str, path: str, body: Any = None, content: str = "", **query: str) -> Answer:
        status, data = self._send(method, path, body, content, query)
        try:
            return Answer(status, dict(json.loads(data or b"{}")))
        except ValueError:
            return Answer(status, {"message": data[:400].decode("utf-8", "replace")})

    def _send(self, method: str, path: str, body: Any, content: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body; waits where the API server is away or overwhelmed.

        Raises:
            TargetError: It stayed away.
        """
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        def once() -> tuple[int, bytes]:
            try:
                response = self._client.call_api(
                    path,
                    method,
                    query_params=list(query.items()),
                    header_params={"Accept": "*/*", **({"Content-Type": content} if content else {})},
                    body=body,
                    auth_settings=["BearerToken"],
                    _preload_content=False,
                    _request_timeout=(_ASK_SECONDS, _ASK_SECONDS),
                )
                found = response[0] if isinstance(response, tuple) else response
                return int(found.status), bytes(found.data)
            except ApiException as error:
                if not error.status or error.status == _TOO_MANY or error.status >= _SERVER_ERROR:
                    raise
                said = error.body or error.reason or ""
                return int(error.status), said if isinstance(said, bytes) else str(said).encode()

        patiently = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((ApiException, HTTPError, OSError)),
            wait=tenacity.wait_exponential(multiplier=0.3, max=5),
            stop=tenacity.stop_after_delay(self._patience),
            reraise=True,
        )
        try:
            return patiently(once)
        except (ApiException, HTTPError, OSError) as error:
            raise TargetError(
                f"the Kubernetes API stayed away for {self._patience:g} s: {clip(error, 200)}",
                where=path,
                hint="check the cluster, and KUBECONFIG",
            ) from error


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _name(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _refuse_foreign(manifest: Mapping[str, Any], before: Answer) -> None:
    """What has our name and none of our labels was made by somebody else for something else."""
    part = "app.kubernetes.io/part-of"
    if before.status == _OK and (before.body["metadata"].get("labels") or {}).get(part) != "windtunnel":
        raise UserError(
            f"{_name(manifest)} is there already and not Windtunnel's",
            where=f"namespace {before.body['metadata'].get('namespace')}",
            hint=f"take another `name` in the serving spec, or label it {part}=windtunnel to hand it over",
        )


def _conflicts(answer: Answer) -> list[str]:
    causes = (answer.body.get("details") or {}).get("causes") or []
    return [clip(f"{cause.get('field', '')} ({cause.get('message', '')})", 200) for cause in causes]


def _content(found: Mapping[str, Any]) -> Any:
    """An object without what the API server notes about it."""
    if "metadata" not in found:
        return None
    own = {key: value for key, value in found["metadata"].items() if key in ("labels", "annotations", "uid")}
    noted = ("metadata", "status", "apiVersion", "kind")
    return own, {key: value for key, value in found.items() if key not in noted}
