"""Hugging Face hub: ids of repositories, and downloads and uploads of files, by huggingface_hub (extra `hub`).

Downloads are kept in the hub's own cache (HF_HOME), one folder for each commit. What is there needs no network: a
commit never does, and a branch or tag only asks which commit it is now. With HF_HUB_OFFLINE=1 nothing is asked.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from panns_litert.errors import BundleError, DownloadError, PannsLitertError, importing
from panns_litert.strict import shown

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PREFIX = "hf:"

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"  # of a repository's name; the hub allows 96 characters
_REPO = re.compile(f"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")


@dataclass(frozen=True)
class HubId:
    """A repository of the hub, and a revision of it. Its text is `hf:ORG/NAME` or `hf:ORG/NAME@REVISION`.

    Attributes:
        repo: ORG/NAME.
        revision: branch, tag or commit (40 hexadecimal digits); the default branch if None.

    Raises:
        BundleError: the name or the revision is not one of the hub's.

    >>> HubId.parse("hf:org/name@v1")
    HubId(repo='org/name', revision='v1')
    """

    repo: str
    revision: str | None = None

    def __post_init__(self) -> None:
        repo, revision = self.repo, self.revision
        if not isinstance(repo, str) or not _REPO.fullmatch(repo) or "--" in repo or ".." in repo:
            raise BundleError(f"hub repository {shown(repo)}; expected ORG/NAME, such as hf:ORG/NAME")
        if repo.endswith(".git"):
            raise BundleError(f"hub repository {shown(repo)}; expected it without .git")
        if revision is None:
            return
        # It becomes a part of a path in the hub's cache.
        plain = isinstance(revision, str) and _REVISION.fullmatch(revision) is not None
        if not plain or {"", ".", ".."} & {*revision.split("/")}:
            raise BundleError(f"revision {shown(revision)} of hf:{repo}; expected a branch, a tag or a commit")

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")

    @classmethod
    def parse(cls, text: str) -> HubId:
        """Reads an id with or without `hf:`.

        Raises:
            BundleError: it is no id.
        """
        if not isinstance(text, str):
            raise BundleError(f"hub repository {shown(text)}; expected ORG/NAME, such as hf:ORG/NAME")
        repo, at, revision = text.removeprefix(PREFIX).partition("@")
        return cls(repo, revision if at else None)


class Snapshot:
    """The files of a repository at one commit, in the hub's cache. Files are downloaded when they are asked for.

    Args:
        hub_id: the repository and its revision. The hub is asked which commit the revision is; if it cannot be reached,
            the commit is the one that was used last, with a warning of huggingface_hub's log.
        progress: whether downloads draw progress bars on stderr.

    Attributes:
        hub_id: the repository at its commit.

    Raises:
        DownloadError: there is no such repository or revision, or it may not be read; or the hub cannot be reached and
            the revision is not in the cache.
        MissingDependencyError: huggingface_hub is not installed.
    """

    def __init__(self, hub_id: HubId, *, progress: bool = False) -> None:
        self._api, self._progress = _client(), progress
        with _hub_errors(hub_id):
            found = self._api.resolve_revision(hub_id.repo, revision=hub_id.revision, local_files_only=_offline())
        self.hub_id = HubId(hub_id.repo, found.resolved)

    def names(self) -> tuple[str, ...]:
        """Returns the names of all files of the repository. This asks the hub.

        Raises:
            DownloadError: the hub cannot be reached, or there is no such repository.
        """
        with _hub_errors(self.hub_id):
            info = self._api.model_info(self.hub_id.repo, revision=self.hub_id.revision)
        return tuple(entry.rfilename for entry in info.siblings or ())

    def file(self, name: str, *, again: bool = False) -> Path:
        """Returns the path of a file in the cache. Downloads it if it is not there, or if `again` is true.

        All files of a snapshot are in one folder. Several processes may download them at the same time.

        Raises:
            BundleError: the repository has no such file.
            DownloadError: it cannot be downloaded or stored.
        """
        with _hub_errors(self.hub_id, name), _bars(self._progress):
            found = self._api.hf_hub_download(
                self.hub_id.repo,
                name,
                revision=self.hub_id.revision,
                local_files_only=_offline(),
                force_download=again and not _offline(),
            )
        return Path(found)


@dataclass(frozen=True)
class Uploaded:
    """A commit that `upload` made.

    Attributes:
        hub_id: the repository, with the commit as its revision.
        url: the commit's page.
    """

    hub_id: HubId
    url: str


def upload(
    repo: str,
    files: Mapping[str, Path | bytes],
    *,
    message: str,
    private: bool,
    marker: str,
    progress: bool = False,
) -> Uploaded:
    """Uploads files to a repository in one commit. Creates the repository if there is none.

    Args:
        repo: ORG/NAME.
        files: paths or contents by name.
        message: of the commit.
        private: whether the repository must be private.
        marker: name of a file that shows that a repository may be overwritten. Without it, the repository must be new.
        progress: whether progress bars are drawn on stderr.

    Raises:
        BundleError: the repository holds other files, or it is public and must be private.
        DownloadError: the hub cannot be reached or refuses.
        MissingDependencyError: huggingface_hub is not installed.
    """
    hub_id, api = HubId(repo), _client()
    from huggingface_hub import CommitOperationAdd

    with _hub_errors(hub_id, write=True), _bars(progress):
        api.create_repo(repo, private=private or None, exist_ok=True)
        info = api.model_info(repo)
        there = {entry.rfilename for entry in info.siblings or ()}
        if other := there - {".gitattributes", "README.md"} if marker not in there else set():
            raise BundleError(
                f"{hub_id} has {', '.join(sorted(map(shown, other))[:3])} and no {marker}; expected a new repository, "
                "or one with a bundle"
            )
        if private and not info.private:
            raise BundleError(f"{hub_id} is public; expected a private repository: change that in its settings")
        commit = api.create_commit(
            repo,
            [CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message=message,
            parent_commit=info.sha,  # so that nobody else's commit is overwritten
        )
    return Uploaded(HubId(repo, commit.oid), commit.commit_url)


def _client() -> HfApi:
    with importing("huggingface_hub", extra="hub", purpose="the Hugging Face hub needs"):
        from huggingface_hub import HfApi
    from importlib import metadata

    return HfApi(library_name="panns-litert", library_version=metadata.version("panns-litert"))


@contextlib.contextmanager
def _bars(wanted: bool) -> Iterator[None]:
    """Turns off the progress bars of huggingface_hub, which are on for the whole process, unless they are wanted."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if wanted or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _offline() -> bool:
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


@contextlib.contextmanager
def _hub_errors(hub_id: HubId, file: str | None = None, *, write: bool = False) -> Iterator[None]:
    """Turns the errors of huggingface_hub into one line that says what to do."""
    from huggingface_hub import errors

    what = f"{file} of {hub_id}" if file else str(hub_id)
    try:
        yield
    except PannsLitertError:
        raise
    except errors.GatedRepoError as error:
        raise DownloadError(f"{hub_id} is gated; accept its terms on its page, and {_LOG_IN}") from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(f"{hub_id}: no such revision; expected a branch, a tag or a commit of it") from error
    except errors.RemoteEntryNotFoundError as error:
        raise BundleError(f"{hub_id} has no {file}; expected a bundle that `panns-litert publish` uploaded") from error
    except errors.RepositoryNotFoundError as error:
        may = "write to" if write else "read"
        raise DownloadError(f"{hub_id}: no such repository that you may {may}; if it is private, {_LOG_IN}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status == 412:
            raise DownloadError(f"{hub_id}: somebody else made a commit meanwhile; look at it and try again") from error
        if status in (401, 403):
            may = "write to" if write else "read"
            raise DownloadError(f"{what}: the hub refuses ({status}); expected leave to {may} it; {_LOG_IN}") from error
        raise DownloadError(f"{what}: the hub answers {status} ({_short(error)}); try again later") from error
    except (errors.LocalEntryNotFoundError, errors.RevisionResolutionError, errors.OfflineModeIsEnabled) as error:
        why = "HF_HUB_OFFLINE is set" if _offline() else f"the hub cannot be reached ({_short(_cause(error))})"
        remedy = "expected a connection" if write else "expected a connection, or a revision that was used before"
        raise DownloadError(f"{what} is not in the cache, and {why}; {remedy}") from error
    except OSError as error:
        if error.filename is None:  # not of a file here, such as a size that is not what the hub said
            raise DownloadError(f"{what}: {_short(error)}; try again") from error
        raise DownloadError(
            f"{error.filename}: {error.strerror}; expected a folder that can be written; point HF_HOME elsewhere"
        ) from error
    except ValueError as error:  # such as metadata of a model card that the hub refuses
        raise DownloadError(f"{what}: {_short(error)}") from error
    except Exception as error:  # those of its HTTP library have no class in common with its own
        raise DownloadError(f"{what}: {type(error).__name__}: {_short(error)}; try again") from error


def _cause(error: BaseException) -> BaseException:
    return error.__cause__ or error


def _short(error: BaseException) -> str:
    """Returns the message of an error in one line that is not too long."""
    text = " ".join(str(getattr(error, "server_message", None) or error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"
