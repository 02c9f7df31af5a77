"""Packing: verified artifacts go into an app whole, signed, each backbone once."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

import effine.export.pack as packing
from artifacts import Exported
from bundles import Keys, make_pair, tree, verify
from commands import good, refused, run
from effine.export.golden import STEPS
from effine.export.short_run import LIMIT, shorten
from effine.runtime.artifact import Artifact, write_artifact
from effine.runtime.bundle import Bundle
from effine.runtime.engines.executorch import ExecuTorchEngine
from effine.runtime.manifest_fields import TargetInfo
from effine.runtime.parity import check_engine
from effine.runtime.signing import PublicKey
from tiny_artifact import make_manifest

pytest_plugins = "bundles"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make_pair(tmp_path / "made")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An app's assets with a file of its own."""
    folder = tmp_path / "assets"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    return folder


def test_keygen_makes_a_key_once(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    assert "keep it secret" in good("keygen", private)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "PRIVATE" in private.read_text() and "PRIVATE" not in public.read_text()
    PublicKey.read(public)
    before = tree(tmp_path)
    assert refused("keygen", private) == f"{private}: exists already; choose another name"
    private.unlink()
    assert refused("keygen", private) == f"{public}: exists already; choose another name"
    assert tree(tmp_path) == {"key.pub.pem": before["key.pub.pem"]}
    assert "can't be written: No such file" in refused("keygen", tmp_path / "absent" / "key.pem")


def test_one_bundle_for_all_destinations(
    pair: tuple[Path, Path], app: Path, tmp_path: Path, keys: Keys
) -> None:
    ios, archive, again = tmp_path / "ios", tmp_path / "1.zip", tmp_path / "2.zip"
    ios.mkdir()
    destinations = ("--android", app, "--ios", ios, "--zip", archive)
    shown = good("pack", *pair, *destinations, "--sign", keys["ours"], "--version", 7)
    assert [line.partition(":")[0] for line in shown.splitlines()] == [
        *(str(path) for path in (app / "effine", ios / "effine", archive))
    ]
    assert "version 7, 2 artifact(s)" in shown and "saved by sharing" in shown
    assert tree(app / "effine") == tree(ios / "effine")
    assert (app / "letter.txt").read_text() == "dear" and len(list(app.iterdir())) == 2
    good("pack", *reversed(pair), "--zip", again, "--sign", keys["ours"], "--version", 7)
    assert archive.read_bytes() == again.read_bytes()
    opened = Bundle.open(app / "effine", PublicKey.read(keys["ours.pub"]))
    assert opened.info.version == 7 and opened.info.verified
    for path, packed in zip(pair, opened.artifacts.values(), strict=True):
        assert packed.manifest == Artifact.open(path).manifest


def test_openssl_takes_the_signature(pair: tuple[Path, Path], app: Path, keys: Keys) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt install openssl")
    good("pack", pair[0], "--android", app, "--sign", keys["ours"])
    for folder, name in ((app / "effine", "bundle"), (app / "effine/first.effine", "manifest")):
        command = ["openssl", "dgst", "-sha256", "-verify", str(keys["ours.pub"])]
        command += ["-signature", str(folder / f"{name}.sig"), str(folder / f"{name}.json")]
        assert subprocess.run(command, capture_output=True).returncode == 0


def test_inspect_checks_the_signature(pair: tuple[Path, Path], app: Path, keys: Keys) -> None:
    good("pack", *pair, "--android", app, "--sign", keys["ours"])
    folder = app / "effine" / "first.effine"
    assert "adapter" in good("inspect", folder, "--public-key", keys["ours.pub"])
    message = refused("inspect", folder, "--public-key", keys["other.pub"])
    assert "manifest.sig: isn't the expected key's signature of manifest.json" in message
    assert "missing" in refused("inspect", pair[0], "--public-key", keys["ours.pub"])
    assert "isn't a public key" in refused("inspect", folder, "--public-key", keys["ours"])


def test_install_and_its_refusals(pair: tuple[Path, Path], tmp_path: Path, keys: Keys) -> None:
    old, new, home = tmp_path / "old.zip", tmp_path / "new.zip", tmp_path / "installed"
    good("pack", *pair, "--zip", new, "--sign", keys["ours"], "--version", 2)
    good("pack", pair[0], "--zip", old, "--sign", keys["ours"])
    options = ("--out", home, "--public-key", keys["ours.pub"])
    shown = json.loads(good("install", new, *options, "--json"))
    assert shown["version"] == 2 and shown["orphans"] == []
    assert Bundle.open(home).path == Path(shown["path"])
    assert "is older than the installed 2" in refused("install", old, *options)
    good("pack", pair[0], "--zip", old, "--sign", keys["ours"], "--version", 3)
    shown_text = good("install", old, *options)
    assert f"second.effine: checkpoints don't go on; what they belong to stays in {home}" in (
        shown_text
    )


@pytest.mark.parametrize("report", [None, {"passed": False}, {"manifest": "0" * 64}])
def test_only_verified_artifacts_are_packed(
    pair: tuple[Path, Path], app: Path, report: dict[str, object] | None
) -> None:
    second = pair[1]
    if report is None:
        shutil.rmtree(second / "reports")
    else:
        verify(second, **report)
    reason = "says that parity failed" if report == {"passed": False} else "has no parity report"
    message = refused("pack", *pair, "--android", app)
    assert reason in message and "second" in message and "--allow-unverified" in message
    assert not (app / "effine").exists()
    result = run("pack", *pair, "--android", app, "--allow-unverified")
    assert result.exit_code == 0 and f"warning: {second}" in result.stderr
    assert ", unsigned, unverified" in result.stdout
    assert not Bundle.open(app / "effine").info.verified


def test_a_failed_report_outweighs_a_passing_one(pair: tuple[Path, Path], app: Path) -> None:
    report = pair[0] / "reports" / "parity-python.json"
    failed = json.loads(report.read_text()) | {"passed": False}
    (pair[0] / "reports" / "parity-jvm.json").write_text(json.dumps(failed))
    assert "parity-jvm.json: says that parity failed" in refused("pack", *pair, "--android", app)
    report.write_text("[]")
    (pair[0] / "reports" / "parity-jvm.json").unlink()
    assert "not a parity report" in refused("pack", *pair, "--android", app)


def test_wrong_use(pair: tuple[Path, Path], app: Path, tmp_path: Path, keys: Keys) -> None:
    before = tree(tmp_path)
    first, second = pair
    into = ("--android", app)
    assert "pass --android, --ios or --zip" in refused("pack", first)
    assert "--zip: what is installed has to be signed" in refused("pack", first, "--zip", "x.zip")
    assert "no such directory" in refused("pack", first, "--ios", tmp_path / "absent")
    assert "isn't a private key" in refused("pack", first, *into, "--sign", keys["ours.pub"])
    assert "another artifact is called first.effine" in refused("pack", first, first, *into)
    letter = ("--zip", app / "letter.txt", "--sign", keys["ours"])
    assert "isn't a zip archive" in refused("pack", first, *letter)
    assert "no such artifact" in refused("pack", tmp_path / "absent.effine", *into)
    assert tree(tmp_path) == before
    (app / "effine").mkdir()
    assert "exists and isn't a bundle" in refused("pack", first, *into)
    (app / "effine").rmdir()
    named = second.rename(second.with_name("bundle.json"))
    assert "can't name it in an app" in refused("pack", named, *into)


def test_programs_that_phones_do_not_run(pair: tuple[Path, Path], app: Path) -> None:
    write_artifact(pair[0], make_manifest(target=TargetInfo("onnx", "1.20.0", 20)))
    message = refused("pack", pair[0], "--android", app)
    assert "phones don't run onnx programs" in message


def test_a_failed_run_changes_nothing(
    pair: tuple[Path, Path], app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    good("pack", pair[0], "--android", app)
    before = tree(tmp_path)
    for function in ("_build", "_staged", "replace_folder"):
        with monkeypatch.context() as patch:
            patch.setattr(packing, function, broken)
            message = refused("pack", *pair, "--android", app)
        assert "can't be written: No space left on device" in message
        assert tree(tmp_path) == before
    (pair[1] / "train.pte").write_bytes(b"")
    assert "train.pte" in refused("pack", *pair, "--android", app)
    (pair[1] / "train.pte").unlink()
    before.pop("made/second.effine/train.pte")
    assert tree(tmp_path) == before


def test_a_golden_run_that_fits_is_kept(pair: tuple[Path, Path]) -> None:
    before = tree(pair[0])
    shorten(pair[0])
    assert tree(pair[0]) == before


@pytest.mark.parametrize("method", ["adapter", pytest.param("far", marks=pytest.mark.matrix)])
def test_a_short_golden_run(artifact: Exported, tmp_path: Path, method: str) -> None:
    """It has fewer steps where they need not reach every phase, and is replayed as any other."""
    whole = artifact(method)
    folder = Path(shutil.copytree(whole.path, tmp_path / "short.effine"))
    size = whole.manifest.files["golden.safetensors"].size
    limit = 60_000 if method == "adapter" else size - 1
    assert size > limit and LIMIT == 2_000_000
    shorten(folder, limit)
    short = Artifact.open(folder)
    assert short.manifest.files["golden.safetensors"].size <= limit
    assert short.manifest.state_id == whole.manifest.state_id
    golden, metadata = short.golden_with_metadata()
    assert (len(golden["loss"]) < STEPS) == (method == "adapter")
    assert metadata["start"] == "initial" and int(metadata["steps"]) == len(golden["loss"])
    initial = short.initial_state()
    for entry in short.manifest.parameters:
        assert (golden[f"start.{entry.name}"] == initial[entry.name]).all()
    report = check_engine(short, ExecuTorchEngine(short, threads=1))
    assert report.passed, report
    assert {"logits", "gradients", "loss", "weight decay"} <= {c.name for c in report.checks}
