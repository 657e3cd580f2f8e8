"""schemathesis against the OpenAPI document of a running server: whatever is sent, no answer is a fault of the server,
and each is what the document says.

Bounded in cases for each operation, from a fixed seed: the same cases on every machine, however fast it is.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

CASES = os.environ.get("FUZZ_CASES", "20")
# Ends a run that hangs, and fails it. Not `--max-time`, which starts over with other cases until the time is used up.
SECONDS_MAX = 1800

METHODS = {"get", "put", "post", "delete", "patch", "options", "head", "trace"}


def operations(document, authorization):
    """The number of operations that an OpenAPI document has."""
    request = urllib.request.Request(document, headers={"Authorization": authorization})
    with urllib.request.urlopen(request, timeout=30) as answer:
        paths = json.load(answer)["paths"]
    return sum(len(METHODS & path.keys()) for path in paths.values())


def main():
    document = f"http://{os.environ['HULLWATCH_ADDRESS']}/openapi.json"
    authorization = f"Bearer {os.environ['HULLWATCH_TOKEN']}"
    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            "run",
            document,
            "--header",
            f"Authorization: {authorization}",
            # Not `ignored_auth`: so many calls without a token are answered with 429, which it takes for a fault.
            "--checks",
            "not_a_server_error,content_type_conformance,response_headers_conformance,response_schema_conformance",
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            CASES,
            "--seed",
            "1",
            # Not more: CPython 3.11 fails in its own `ast` module under several threads of this.
            "--workers",
            "1",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    print(done.stdout[-20_000:], done.stderr[-2_000:])
    said = re.search(r"Tested: (\d+)", done.stdout)
    tested = int(said.group(1)) if said else 0
    expected = operations(document, authorization)
    good = done.returncode == 0 and tested == expected > 0
    if tested != expected:
        print(f"{tested} operations were tested, {expected} are described")
    print(f"{tested if good else 0} passed, {0 if good else 1} failed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
