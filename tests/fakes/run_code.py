"""`python -m tests.fakes.run_code CODE`: a pod's program that both ways of starting pods can start."""

import sys

if __name__ == "__main__":
    exec(sys.argv[1])
