"""`python -m overtone`: the command line without the installed script."""

from overtone.cli import main

if __name__ == "__main__":
    main()
