"""The command: python train.py model=siamese_cnn aux.lambda=0.8 -m seed=0..9 (see --help)."""

from digitpairs.cli import main

if __name__ == "__main__":
    main()
