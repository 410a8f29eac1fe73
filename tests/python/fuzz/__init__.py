"""Random requests to the ports of `flyte start`, and what no request may do to it.

| module | what is in it |
|---|---|
| `values` | texts, numbers and JSON that programs trip over |
| `messages` | protobuf messages made from descriptors, and mutated |
| `transport` | requests as plain data: sent, saved, read back |
| `signing` | signatures of S3 |
| `oracle` | what is measured of the server, and the bounds |
| `lane` | a run of requests by seed, faults, and the workflow that must still succeed |
| `admin`, `rest`, `kubernetes`, `storage` | the generators, one for each port and protocol |

`FLYTE_FUZZ_SEED` (a number or `random`) chooses the requests, `FLYTE_FUZZ_SECONDS` how long each lane runs. A fault is
written to a file; `python -m fuzz FILE` sends that request alone to a server of its own (`--history`: after all before it).
"""
