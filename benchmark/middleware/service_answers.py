"""Counts the lost first answers of a new service that has not yet discovered its client.

    python -m benchmark.middleware.service_answers [--rounds 100] [--wait-ms 0 --wait-ms 100] [--type-lookup]

Each round, a fresh client waits until a fresh server in a process of its own is ready, asks, and waits 10 s.
`--wait-ms` is what Fast DDS lets an answer wait for the asker's discovery: 100 as it comes, 1000 in the profile that
ships, which is otherwise used as it is. A wait of 0 counts how often an answer is ready before the discovery is.
With `--type-lookup`, types are asked for before endpoints are matched, as Fast DDS 3 does without the profile.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmark.middleware.dds_profile import write_profile
from ros_ood_perception.launching.transport_environment import local_graph_environment, with_profile
from ros_ood_perception.number_arguments import whole
from ros_ood_perception.parent_process import ends_with_this_process

SERVICE = "answers"
START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 10.0


def serve() -> None:
    """Answer until SIGTERM."""
    import rclpy
    from lifecycle_msgs.srv import GetState
    from rclpy.signals import SignalHandlerOptions

    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopped.set())
    # rclpy's own handlers pull the context from under a running spin.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("server")
    node.create_service(GetState, SERVICE, lambda request, response: response)
    while not stopped.is_set():
        rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_node()
    rclpy.shutdown()


def lost_answers(rounds: int) -> int:
    """How many of so many first questions get no answer."""
    import rclpy
    from lifecycle_msgs.srv import GetState

    rclpy.init()
    lost = 0
    for number in range(rounds):
        # With its last node a context's participant goes: each round discovers anew.
        node = rclpy.create_node("asker")
        client = node.create_client(GetState, SERVICE)
        server = subprocess.Popen(
            ends_with_this_process([sys.executable, "-m", "benchmark.middleware.service_answers", "--serve"])
        )
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not client.service_is_ready():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"round {number}: no server within {START_TIMEOUT_S:.0f} s")
                rclpy.spin_once(node, timeout_sec=0.001)
            answer = client.call_async(GetState.Request())
            rclpy.spin_until_future_complete(node, answer, timeout_sec=ANSWER_TIMEOUT_S)
            lost += not answer.done()
        finally:
            server.terminate()  # in an orderly way: a killed process leaves its shared memory
            server.wait()
            node.destroy_node()
    rclpy.shutdown()
    return lost


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=whole(1, 10**6), default=100)
    parser.add_argument(
        "--wait-ms", type=whole(0, 10**6), action="append", help="may be repeated; default: 0, 100, 1000"
    )
    parser.add_argument("--type-lookup", action="store_true", help="as without the profile")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.ask:
        print(lost_answers(options.rounds))
    else:
        with tempfile.TemporaryDirectory() as folder:
            for wait_ms in options.wait_ms or (0, 100, 1000):
                profile = Path(folder) / f"wait_{wait_ms}.xml"
                write_profile(profile, answer_wait_ms=wait_ms, type_lookup=options.type_lookup)
                # Fast DDS reads its profile once a process.
                command = [
                    sys.executable,
                    "-m",
                    "benchmark.middleware.service_answers",
                    "--ask",
                    "--rounds",
                    str(options.rounds),
                ]
                variables = with_profile({**os.environ, **local_graph_environment(os.environ)}, profile)
                run = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True)
                print(f"an answer waits {wait_ms} ms: {run.stdout.strip()} of {options.rounds} lost", flush=True)


if __name__ == "__main__":
    main()
