"""A typed, synchronous client of the REST API."""

import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tamis.client.following import JobProgress, told_in_a_line
from tamis.client.packing import Packed, pack, unpack
from tamis.client.tus import PART, creation_headers, send_parts
from tamis.errors import (
    AuthenticationError,
    ChecksumError,
    ConflictError,
    ExpiredError,
    InputError,
    LimitError,
    NotFoundError,
    QuotaError,
    TamisError,
)
from tamis.manifest import DESCRIPTION, FEATURES, PAIRS, SAMPLES
from tamis.progress import Progress

ATTEMPTS = 5
CHUNK = 1 << 20
ENDED = {"succeeded", "failed", "cancelled"}
_ERRORS: dict[int, type[TamisError]] = {
    401: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
    410: ExpiredError,
    413: LimitError,
    422: InputError,
    460: ChecksumError,
    507: QuotaError,
}


class Client:
    """Talks to one server. Use as a context manager, or `close()` it.

    Requests that fail to connect, or meet a 429, 502, 503 or 504, are sent again up to five times, with growing pauses
    or after the time that the server tells; a creation carries an idempotency key, so that a repetition cannot create
    twice.

    Raises the errors of `tamis.errors` that the server's problem documents stand for.
    """

    def __init__(self, url: str = "http://127.0.0.1:8080", api_key: str | None = None, timeout: float = 60.0) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def upload(
        self,
        source: str | Path,
        name: str,
        progress: Progress | None = None,
        follow_links: bool = False,
        priority: str = "normal",
    ) -> dict[str, Any]:
        """Creates a data set and sends a folder (packed as tar on the way) or an archive; returns the queued data set.

        What is larger than 8 MiB is sent in parts, through cut connections and restarts of the server. The same upload
        begun again, by another process too, goes on where the earlier one stopped.

        progress: called with bytes sent and bytes in all.
        follow_links: whether files are sent that links of the folder name outside of it; they are refused otherwise.
        priority: low, normal or high, of what stores the images there.
        """
        packed = pack(source, follow_links)
        if packed.size <= PART:
            return self._send_at_once(packed, name, progress, priority)
        sha256 = packed.sha256()
        upload = self._unfinished(packed, name, sha256)
        if upload is None:
            dataset = self._create("/datasets", {"name": name, "priority": priority})
            headers = {**creation_headers(packed, sha256), "idempotency-key": uuid.uuid4().hex}
            address = f"/api/v1/datasets/{dataset['id']}/uploads"
            upload = _answer(self._retried(lambda: self._http.post(address, headers=headers)))
        refusal = send_parts(self._http, f"/api/v1/uploads/{upload['id']}", packed, progress)
        if refusal is not None:
            _answer(refusal)
        return self.dataset(upload["dataset"])

    def _unfinished(self, packed: Packed, name: str, sha256: str) -> dict[str, Any] | None:
        """The upload of the same bytes under the same name that was begun before."""
        wanted = (name, packed.name, packed.size, sha256)
        for upload in self.items("/uploads"):
            if (upload["dataset_name"], upload["name"], upload["size"], upload["sha256"]) == wanted:
                return upload
        return None

    def _send_at_once(self, packed: Packed, name: str, progress: Progress | None, priority: str) -> dict[str, Any]:
        dataset = self._create("/datasets", {"name": name, "priority": priority})

        def send() -> httpx.Response:
            return self._http.post(
                f"/api/v1/datasets/{dataset['id']}/archive",
                params={"name": packed.name},
                content=_counted(packed, progress),
                headers={"content-length": str(packed.size)},
                timeout=None,
            )

        try:
            return _answer(self._retried(send))
        except ConflictError as conflict:
            return self._arrived(dataset["id"], conflict)

    def register(self, address: str, name: str, priority: str = "normal") -> dict[str, Any]:
        """Creates a data set of what the server reads in place, as s3://BUCKET/PREFIX or file:///FOLDER; returns it."""
        dataset = self._create("/datasets", {"name": name, "priority": priority})
        try:
            return self._create(f"/datasets/{dataset['id']}/location", {"uri": address})
        except ConflictError as conflict:
            return self._arrived(dataset["id"], conflict)

    def _arrived(self, dataset: str, conflict: ConflictError) -> dict[str, Any]:
        """The data set, which is ours and new: the conflict is with an earlier try, of which only the answer was lost.
        Raises it where nothing has arrived."""
        found = self.dataset(dataset)
        if found["state"] == "empty":
            raise conflict
        return found

    def send_embeddings(self, dataset: str, file: str | Path) -> dict[str, Any]:
        """Sends an .npy or Parquet file of one row a sample, for curations with `encoder="embeddings"`: in the order of
        the samples, as manifests have it, or named by a column `sample_id` or `path` of the Parquet file."""
        content = Path(file)

        def send() -> httpx.Response:
            with content.open("rb") as body:
                return self._http.post(f"/api/v1/datasets/{dataset}/embeddings", content=body, timeout=None)

        return _answer(self._retried(send))

    def send_encoder(self, file: str | Path, architecture: str | None = None) -> dict[str, Any]:
        """Sends a checkpoint; the answer's `encoder` is what `curate` takes. architecture: as torchvision:NAME or
        timm:NAME, where the weights alone do not tell."""
        content = Path(file)
        query = {"name": content.name} | ({} if architecture is None else {"architecture": architecture})

        def send() -> httpx.Response:
            with content.open("rb") as body:
                return self._http.post("/api/v1/encoders", content=body, params=query, timeout=None)

        return _answer(self._retried(send))

    def encoders(self) -> list[dict[str, Any]]:
        """Those that were sent, the latest first."""
        return list(self.items("/encoders"))

    def datasets(self) -> list[dict[str, Any]]:
        return list(self.items("/datasets"))

    def delete_dataset(self, dataset_id: str) -> None:
        """Deletes a data set of which no curation has a result."""
        self.request("DELETE", f"/datasets/{dataset_id}")

    def quarantine(self, dataset_id: str) -> Iterator[dict[str, Any]]:
        """The files that were left out, each with name and reason, page after page."""
        return self.items(f"/datasets/{dataset_id}/quarantine", limit=500)

    def dataset(self, dataset_id: str) -> dict[str, Any]:
        return self._get(f"/datasets/{dataset_id}")

    def curations(self) -> list[dict[str, Any]]:
        return list(self.items("/curations"))

    def curate(self, /, dataset: str, *, idempotency_key: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Asks for a curation (see POST /curations for the parameters); returns it queued."""
        return self._create("/curations", {"dataset": dataset, **parameters}, idempotency_key)

    def curation(self, curation_id: str) -> dict[str, Any]:
        return self._get(f"/curations/{curation_id}")

    def pairs(self, /, curation: str, sort: str = "-difficulty", **filters: Any) -> Iterator[dict[str, Any]]:
        """The difficult pairs, page after page; sort: -difficulty, -similarity or similarity, - the highest first."""
        return self.items(f"/curations/{curation}/pairs", sort=sort, limit=500, **filters)

    def make_manifest(
        self, curation: str, strategy: str | None = None, fraction: str | float = "auto", duplicates: str = "keep"
    ) -> dict[str, Any]:
        """Asks for a manifest of a finished curation, by default of the server's strategy; returns it queued."""
        asked = {"fraction": fraction, "duplicates": duplicates, **({"strategy": strategy} if strategy else {})}
        return self._create(f"/curations/{curation}/manifests", asked)

    def manifest(
        self,
        curation: str,
        directory: str | Path,
        strategy: str | None = None,
        fraction: str | float = "auto",
        progress: JobProgress | None = None,
        duplicates: str = "keep",
    ) -> Path:
        """Makes a manifest, waits for it and downloads it into `directory`, which it returns."""
        row = self.make_manifest(curation, strategy, fraction, duplicates)
        self.wait(f"/manifests/{row['id']}", progress)
        return self.download(row["id"], directory)

    def download(self, manifest: str, directory: str | Path) -> Path:
        """Downloads a finished manifest's files."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        treats = FEATURES in self._get(f"/manifests/{manifest}")["files"]
        for name in (SAMPLES, PAIRS, *[FEATURES] * treats, DESCRIPTION):
            partial = folder / f".{name}.partial"
            self._retried(lambda name=name, partial=partial: self._fetch(f"/manifests/{manifest}/{name}", partial))  # type: ignore[misc]
            partial.replace(folder / name)
        return folder

    def export(self, manifest: str, form: str, folder: str | Path) -> Path:
        """Downloads a manifest's kept samples, images included, in a form of `tamis export`; returns the folder."""
        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        with self._http.stream("GET", f"/api/v1/manifests/{manifest}/export", params={"format": form}) as answer:
            if answer.is_error:
                answer.read()
                _answer(answer)
            unpack(answer.iter_bytes(CHUNK), out)
        return out

    def manifest_view(self, manifest: str) -> dict[str, Any]:
        """What the server says of a manifest."""
        return self._get(f"/manifests/{manifest}")

    def image(self, dataset: str, sample: int) -> bytes:
        """A sample's image file; as a PNG where browsers do not show its format."""
        return self.content(f"/datasets/{dataset}/samples/{sample}/image")

    def manifests(self) -> list[dict[str, Any]]:
        return list(self.items("/manifests"))

    def trainings(self) -> list[dict[str, Any]]:
        return list(self.items("/trainings"))

    def training(self, training_id: str) -> dict[str, Any]:
        return self._get(f"/trainings/{training_id}")

    def jobs(self) -> list[dict[str, Any]]:
        """What runs or waits, and the latest that ended."""
        return list(self.items("/jobs"))

    def cancel(self, job: str) -> dict[str, Any]:
        """Cancels the curation or training at an address such as `/curations/ID`; returns it."""
        _answer(self._http.post(f"/api/v1/jobs/{job.rpartition('/')[2]}/cancel"))
        return self._get(job)

    def train(self, /, manifest: str, **parameters: Any) -> dict[str, Any]:
        """Asks for a training on a manifest; returns it queued."""
        return self._create("/trainings", {"manifest": manifest, **parameters})

    def experiment(self, /, curation: str, **parameters: Any) -> dict[str, Any]:
        """Asks for an experiment on a curation, such as with arms and seeds; returns it queued."""
        return self._create("/trainings", {"curation": curation, **parameters})

    def wait(
        self, job: str, progress: JobProgress | bool | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """Waits until the job at an address such as `/curations/ID` has ended; returns it.

        progress: called with the job each time it changed; True tells of it in one line, on a terminal as in a
        notebook. Raises TamisError with the cause when it failed or was cancelled, and TimeoutError after `timeout`
        seconds.
        """
        for row, pause in self.looks(job, progress, timeout):
            if pause is None:
                return row
            time.sleep(pause)
        raise AssertionError("the last look has no pause")

    def looks(
        self, job: str, progress: JobProgress | bool | None = None, timeout: float | None = None
    ) -> Iterator[tuple[dict[str, Any], float | None]]:
        """What `wait` sees: the job, and the seconds until the next look; None once it has succeeded."""
        told = told_in_a_line() if progress is True else progress or None
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, seen = 0.1, None
        while True:
            row = self._get(job)
            if told is not None and (row["state"], row["progress"]) != seen:
                seen = row["state"], row["progress"]
                told(row)
            if row["state"] in ENDED:
                break
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{job} is still {row['state']} after {timeout} s")
            yield row, pause
            pause = min(pause * 1.2, 1.0)
        if row["state"] != "succeeded":
            raise TamisError(f"{job} {row['state']}: {row['error'] or 'no cause given'}")
        yield row, None

    def request(self, /, method: str, path: str, body: Any = None, **parameters: Any) -> dict[str, Any]:
        """What any route of the API answers, as `request("GET", "/curations/ID/pairs", limit=1)`.

        path: without /api/v1. body: sent as JSON. {} where the answer is empty. `items` is for lists, `content` for
        what is no JSON.
        """
        return self._asked(method, path, body, parameters)

    def items(self, /, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, page after page, as `items("/datasets/ID/samples")`."""
        cursor: str | None = None
        while True:
            page = self._get(path, **parameters, **({"cursor": cursor} if cursor else {}))
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def content(self, /, path: str, **parameters: Any) -> bytes:
        """The bytes of a picture or file, as `content("/datasets/ID/samples/0/thumbnail")`."""
        answer = self._retried(lambda: self._http.get(f"/api/v1{path}", params=parameters))
        if answer.is_error:
            _answer(answer)
        return answer.content

    def _get(self, path: str, **parameters: Any) -> dict[str, Any]:
        return self.request("GET", path, **parameters)

    def _create(self, path: str, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        # An earlier server knows no priority but the normal one, by no name.
        told = {name: value for name, value in body.items() if (name, value) != ("priority", "normal")}
        return self._asked("POST", path, told, {}, key)

    def _asked(
        self, method: str, path: str, body: Any, parameters: dict[str, Any], key: str | None = None
    ) -> dict[str, Any]:
        headers = {"idempotency-key": key or uuid.uuid4().hex} if method == "POST" else {}
        told: dict[str, Any] = {"params": parameters, "headers": headers} | ({} if body is None else {"json": body})
        return _answer(self._retried(lambda: self._http.request(method, f"/api/v1{path}", **told)))

    def _fetch(self, path: str, file: Path) -> httpx.Response:
        with self._http.stream("GET", f"/api/v1{path}") as response, file.open("wb") as target:
            if response.is_error:
                response.read()
                _answer(response)
            for chunk in response.iter_bytes(CHUNK):
                target.write(chunk)
        return response

    def _retried(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        for attempt in range(ATTEMPTS):
            last, told = attempt == ATTEMPTS - 1, ""
            try:
                response = send()
            except httpx.TransportError as error:
                if last:
                    raise TamisError(
                        f"{self._http.base_url} does not answer ({error}).", "Is `tamis serve` running there?"
                    ) from error
            else:
                if response.status_code not in {429, 502, 503, 504} or last:
                    return response
                told = response.headers.get("retry-after", "")
            # Of many clients that were refused at once, not all are to come back at once.
            time.sleep(float(told) if told.isdecimal() else 0.2 * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError("the loop returns or raises")


def _counted(packed: Packed, progress: Progress | None) -> Iterator[bytes]:
    sent = 0
    for chunk in packed.chunks():
        sent += len(chunk)
        yield chunk
        if progress is not None:
            progress(sent, packed.size)


def _answer(response: httpx.Response) -> dict[str, Any]:
    if response.is_success:
        body: dict[str, Any] = response.json() if response.content else {}
        return body
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"The server answered {response.status_code} {response.reason_phrase}."
    raise _ERRORS.get(response.status_code, TamisError)(detail)
