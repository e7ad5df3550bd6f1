"""`python -m burnish`, and what `torchrun -m burnish` starts on each device."""

from burnish.cli import main

if __name__ == "__main__":
    main()
