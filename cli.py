"""`python cli.py` is the command `tacoskip`, for a checkout that is not installed."""

from tacoskip.cli import main

if __name__ == "__main__":
    main()
