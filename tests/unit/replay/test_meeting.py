"""The meeting point of a run's nodes is moved to this host, and nothing else of their commands."""

from __future__ import annotations

import socket

import pytest

from repro.errors import UsageError
from repro.evidence.joined import Membership
from repro.replay import meeting
from repro.replay.meeting import Meeting

HERE = Meeting(member=Membership(join_id="replay-1", node=1, nodes=2), port=4242)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "torchrun --nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 29500 train.py --lr 0.1",
            "torchrun --nnodes 2 --node-rank 1 --master-addr 127.0.0.1 --master-port 4242 train.py --lr 0.1",
        ),
        ("torchrun --master_addr=n0 --master_port=1 t.py", "torchrun --master_addr=127.0.0.1 --master_port=4242 t.py"),
        (
            "torchrun --rdzv-backend c10d --rdzv_endpoint n0:29400 t.py",
            "torchrun --rdzv-backend c10d --rdzv_endpoint 127.0.0.1:4242 t.py",
        ),
        ("torchrun --rdzv-endpoint=n0 t.py", "torchrun --rdzv-endpoint=127.0.0.1:4242 t.py"),
        (
            "accelerate launch --main_process_ip n0 --main_process_port 1 t.py",
            "accelerate launch --main_process_ip 127.0.0.1 --main_process_port 4242 t.py",
        ),
        ("python t.py --master=n0", "python t.py --master=n0"),
        ("torchrun --master-addr", "torchrun --master-addr"),
    ],
)
def test_a_command_meets_here(command: str, expected: str) -> None:
    assert expected.split() == list(HERE.argv(command.split()))


def test_variables_meet_here_and_name_no_interface_of_the_node() -> None:
    recorded = {"MASTER_ADDR": "n0", "MASTER_PORT": "1", "GLOO_SOCKET_IFNAME": "eth7", "NCCL_ALGO": "Ring"}
    assert {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "4242", "NCCL_ALGO": "Ring"} == HERE.environment(recorded)
    assert {} == HERE.environment({}), "none is added"


def test_a_meeting_is_read_as_it_was_written() -> None:
    assert HERE == meeting.read(HERE.text())
    for wrong in ("", "a:1:2", "a:b:2:3", "a:1:2:3:4", "a:1:2:-3"):
        with pytest.raises(UsageError, match="is no meeting"):
            meeting.read(wrong)


@pytest.mark.parametrize(("text", "run_id"), [('{"replay_id": "ab"}', "ab"), ("", None), ("[]", None), ("{}", None)])
def test_what_a_replay_printed_names_its_run(text: str, run_id: str | None) -> None:
    assert run_id == meeting.answer_of(text)


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listening:
        listening.bind((meeting.HOST, meeting.free_port()))
