"""`python -m gptlab` is the command `gptlab`."""

from gptlab.cli import main

if __name__ == "__main__":
    main()
