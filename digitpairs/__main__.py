"""`python -m digitpairs`, the command that train.py and `digitpairs` run too."""

from digitpairs.cli import main

if __name__ == "__main__":
    main()
