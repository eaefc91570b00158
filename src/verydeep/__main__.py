"""``python -m verydeep`` is the command ``verydeep``."""

from verydeep.apps.cli import main

if __name__ == "__main__":
    main()
