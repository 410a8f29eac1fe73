"""What `flyte start` says when it cannot start, and that it starts again."""

import signal
import socket
import subprocess
import sys

import pytest
from conftest import binary, start, stop

PORTS = ["--http-port", "0", "--s3-port", "0", "--kubernetes-port", "0"]


def refused(*arguments, timeout=20):
    """The one line that `flyte start` refuses with."""
    answer = subprocess.run(
        [binary(), "start", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
    )
    assert answer.returncode == 1, f"{answer.returncode}: {answer.stdout}{answer.stderr}"
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1, answer.stderr
    return lines[0]


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = refused("--data-dir", str(tmp_path / "data"), "--python", sys.executable, *PORTS[2:], "--http-port", port)
    assert port in line and "--http-port" in line
    assert not (tmp_path / "data").exists()


def test_a_second_start_on_the_same_folder_names_the_first(tmp_path):
    first = start(tmp_path)
    try:
        line = refused("--data-dir", str(tmp_path / "data"), "--python", sys.executable, *PORTS)
        assert str(first.process.pid) in line
    finally:
        assert stop(first) == 0


def test_a_python_without_flytekit_is_named(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    line = refused("--data-dir", str(tmp_path / "data"), "--python", python, *PORTS)
    assert python in line and "flytekit" in line
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    line = refused("--data-dir", str(tmp_path / "file" / "data"), "--python", sys.executable, *PORTS)
    assert str(tmp_path / "file") in line


def test_a_wrong_key_in_a_configuration_file_is_named(tmp_path):
    (tmp_path / "flyte.yaml").write_text("propeller:\n  workers: many\nserver:\n  httpPort: here\n")
    answer = subprocess.run(
        [binary(), "start", "--config", str(tmp_path / "flyte.yaml")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
    )
    assert answer.returncode == 1
    assert "server.httpPort" in answer.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_when_asked_and_starts_again_with_what_it_had(tmp_path, number):
    first = start(tmp_path)
    first.process.send_signal(number)
    assert first.process.wait(timeout=40) == 0
    second = start(tmp_path)
    try:
        assert b"flytesnacks" in second.get("/api/v1/projects")
    finally:
        assert stop(second) == 0
