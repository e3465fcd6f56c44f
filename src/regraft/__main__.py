"""`python -m regraft` is `regraft`."""

from regraft.cli import main

if __name__ == "__main__":
    main()
