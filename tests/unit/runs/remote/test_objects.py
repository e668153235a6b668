"""What an object store promises, asked of a real one: objects as a whole, replaced by one of two that want to."""

from pathlib import Path

import pytest

from cgd_ray.runs.remote.objects import ChangedError, Objects, StoreError


def test_an_object_that_is_there_is_not_created_again(store: Objects) -> None:
    store.create("a", b"1")
    with pytest.raises(ChangedError):
        store.create("a", b"2")
    found = store.read("a")
    assert found is not None
    assert found[0] == b"1"


def test_one_of_two_that_replace_the_same_version_does(store: Objects) -> None:
    first = store.create("a", b"1")
    second = store.replace("a", b"2", first)
    with pytest.raises(ChangedError):
        store.replace("a", b"other", first)
    assert store.read("a") == (b"2", second)


def test_what_is_gone_is_not_replaced(store: Objects) -> None:
    tag = store.create("a", b"1")
    store.remove(["a", "never there"])
    assert store.read("a") is None
    with pytest.raises(ChangedError):
        store.replace("a", b"2", tag)


def test_a_large_object_comes_back_as_it_was(store: Objects, tmp_path: Path) -> None:
    pieces = [bytes([number]) * 3_000_000 for number in range(8)]
    store.upload("large", iter(pieces))
    store.download("large", tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == b"".join(pieces)
    assert list(store.names("")) == ["large"]


def test_an_upload_that_is_given_up_leaves_nothing(store: Objects) -> None:
    def pieces() -> object:
        yield b"1" * 9_000_000
        raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, StoreError)):
        store.upload("large", pieces())  # type: ignore[arg-type]
    assert store.read("large") is None


@pytest.mark.parametrize("url", ["ftp://host/x", "s3://", "http://host/x", "s3:///"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=rf"^run_dir {url} is no object store's URL; it may begin with s3://, gs://, "):
        Objects(url)


def test_wrong_credentials_and_a_server_that_is_away_are_one_line(store: Objects, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match=r"^s3://runs/.*403") as refused:
        Objects(url).read("a")
    assert "\n" not in str(refused.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"^s3://runs/") as away:
        Objects(url, retry_s=1.0).read("a")
    assert "\n" not in str(away.value)
