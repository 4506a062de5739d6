"""scripts/install, scripts/uninstall and scripts/check, in folders of their own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
CONF = "etc/momentum-push/ecelerity.conf"
UNIT = "etc/systemd/system/momentum-push.service"
SPOOL = "var/spool/momentum-push"


@pytest.fixture
def checkout(tmp_path):
    """What the scripts need of a checkout, and no more."""
    copy = tmp_path / "checkout"
    for part in ("scripts", "systemd"):
        shutil.copytree(CHECKOUT / part, copy / part)
    (copy / "conf").mkdir()
    (copy / "conf" / "ecelerity.conf").write_text("# as shipped\n")
    return copy


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def script(checkout, name, *arguments, **options):
    words = [str(checkout / "scripts" / name), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, **options)


def install(checkout, root, *arguments):
    result = script(checkout, "install", "--root", root, "--no-venv", *arguments)
    assert result.returncode == 0, result.stderr
    return result


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_install_puts_configuration_unit_and_spool_in_place_and_says_what_is_next(checkout, root):
    result = install(checkout, root)
    assert (root / CONF).read_text() == "# as shipped\n"
    assert (root / CONF).stat().st_mode & 0o777 == 0o640
    assert (root / UNIT).read_text() == (CHECKOUT / "systemd" / "momentum-push.service").read_text()
    assert (root / SPOOL).stat().st_mode & 0o777 == 0o750
    assert "systemctl enable --now momentum-push" in result.stdout
    assert set(files(root)) == {CONF, UNIT}


def test_what_is_installed_can_be_read_whatever_the_umask(checkout, root):
    words = f'umask 077; exec "{checkout}/scripts/install" --root "{root}" --no-venv'
    subprocess.run(["bash", "-c", words], check=True, capture_output=True, timeout=60)
    assert (root / UNIT).stat().st_mode & 0o444 == 0o444
    assert (root / CONF).parent.stat().st_mode & 0o755 == 0o755


def test_a_second_install_changes_nothing_and_keeps_the_operators_configuration(checkout, root):
    install(checkout, root)
    (root / CONF).write_text("# mine\n")
    before = files(root)
    result = install(checkout, root)
    assert files(root) == before and "kept" in result.stdout


def test_an_update_brings_the_new_unit(checkout, root):
    install(checkout, root)
    (root / UNIT).write_text("[Service]\n")
    install(checkout, root)
    assert "ExecStart" in (root / UNIT).read_text()


def test_the_unit_starts_what_the_prefix_holds(checkout, root):
    install(checkout, root, "--prefix", "/srv/push/")
    unit = (root / UNIT).read_text()
    assert "ExecStart=/srv/push/bin/momentum-push serve" in unit and "/opt/" not in unit


def test_uninstall_keeps_what_cannot_be_had_again(checkout, root):
    install(checkout, root)
    (root / SPOOL / "spool.db").write_text("messages")
    result = script(checkout, "uninstall", "--root", root)
    assert result.returncode == 0, result.stderr
    assert set(files(root)) == {CONF, SPOOL + "/spool.db"}
    assert f"kept     {root / CONF}".removesuffix("/ecelerity.conf") in result.stdout


def test_uninstall_with_purge_keeps_nothing_and_may_be_repeated(checkout, root):
    install(checkout, root)
    for _ in range(2):
        result = script(checkout, "uninstall", "--root", root, "--purge")
        assert result.returncode == 0, result.stderr
        assert files(root) == {}
    assert not (root / SPOOL).exists()


def test_uninstall_removes_the_program_only_where_install_made_it(checkout, root):
    ours, link = root / "opt/momentum-push", root / "usr/local/bin/momentum-push"
    for folder in (ours / "bin", root / "srv/other", link.parent):
        folder.mkdir(parents=True)
    (ours / ".momentum-push").touch()
    link.symlink_to("/opt/momentum-push/bin/momentum-push")
    assert "did not make it" in script(checkout, "uninstall", "--root", root, "--prefix", "/srv/other").stdout
    assert (root / "srv/other").is_dir() and link.is_symlink()
    script(checkout, "uninstall", "--root", root)
    assert not ours.exists() and not link.is_symlink()


def test_install_leaves_a_folder_that_is_not_ours_alone(checkout, root):
    (root / "opt/momentum-push").mkdir(parents=True)
    (root / "opt/momentum-push/precious").touch()
    result = script(checkout, "install", "--root", root)
    assert result.returncode == 1 and "is not ours" in result.stderr
    assert set(files(root)) == {"opt/momentum-push/precious"}


def test_install_builds_the_program_into_an_environment_of_its_own(checkout, root, tmp_path):
    """A stand-in for python notes how it is called; what pip would bring is not needed for that."""
    for name in ("pyproject.toml", "LICENSE"):
        (checkout / name).touch()
    (checkout / "momentum_push").mkdir()
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/bash
echo "$@" >> {tmp_path}/calls
[ "$2" = venv ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
[ "$2" != pip ] || ls "${{@: -1}}" >> {tmp_path}/built
exit 0
"""
    )
    python.chmod(0o755)
    result = script(checkout, "install", "--root", root, "--python", python)
    assert result.returncode == 0, result.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[1] == f"-m venv {root}/opt/momentum-push"
    assert calls[2].startswith("-m pip install --quiet --disable-pip-version-check --upgrade /")
    assert set((tmp_path / "built").read_text().split()) == {
        "LICENSE",
        "README.md",
        "momentum_push",
        "pyproject.toml",
    }
    assert os.readlink(root / "usr/local/bin/momentum-push") == "/opt/momentum-push/bin/momentum-push"
    assert (root / "opt/momentum-push/.momentum-push").exists()


def test_an_interpreter_that_is_too_old_is_refused_before_anything_is_made(checkout, root, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/bash\nexit 1\n")
    python.chmod(0o755)
    result = script(checkout, "install", "--root", root, "--python", python)
    assert result.returncode == 1 and "not Python 3.11" in result.stderr
    assert files(root) == {}


@pytest.mark.parametrize("name", ["install", "uninstall"])
@pytest.mark.parametrize(
    "arguments", [["--rot", "/x"], ["--root"], ["--prefix", "relative"], ["--prefix", "/"], ["x"]]
)
def test_wrong_usage_ends_in_2(checkout, name, arguments):
    result = script(checkout, name, *arguments)
    assert result.returncode == 2 and result.stderr.startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["install", "uninstall"])
def test_help_is_the_head_of_the_script(checkout, name):
    result = script(checkout, name, "--help")
    assert result.returncode == 0 and f"scripts/{name} [--prefix DIR]" in result.stdout


def test_install_without_the_shipped_configuration_says_so(checkout, root):
    (checkout / "conf" / "ecelerity.conf").unlink()
    result = script(checkout, "install", "--root", root, "--no-venv")
    assert result.returncode == 1 and "ecelerity.conf is missing" in result.stderr


# --- scripts/check -----------------------------------------------------------------------------------


def stand_in(checkout, body):
    """A .venv whose python only notes its arguments."""
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/bash\necho "$PWD $@" >> {checkout}/calls\n{body}\n')
    python.chmod(0o755)


STEPS = ["-m ruff check ", "-m ruff format --check ", "-m mypy --strict", "-m pytest -q tests/test_rooms.py"]


@pytest.mark.parametrize("environment", [dict(os.environ), {}], ids=["as usual", "no PATH"])
def test_check_runs_all_steps_from_anywhere(checkout, tmp_path, environment):
    stand_in(checkout, "exit 0")
    result = script(checkout, "check", cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    calls = (checkout / "calls").read_text().splitlines()[1:]
    assert len(calls) == len(STEPS)
    assert all(call.startswith(f"{checkout} {step}") for call, step in zip(calls, STEPS, strict=True))
    assert result.stdout.endswith("check: all passed\n")


@pytest.mark.parametrize("failing", range(len(STEPS)))
def test_check_ends_at_the_first_failure_with_a_clear_line(checkout, failing):
    stand_in(checkout, f'[[ "$*" != "{STEPS[failing]}"* ]]')
    result = script(checkout, "check")
    assert result.returncode == 1
    assert f"failed: python {STEPS[failing].strip()}" in result.stderr
    assert len((checkout / "calls").read_text().splitlines()) == failing + 2


def test_check_without_an_environment_says_how_to_get_one(checkout):
    result = script(checkout, "check")
    assert result.returncode == 2 and "run scripts/test once" in result.stderr
