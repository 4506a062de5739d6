"""`python -m momentum_push`: the same as the command `momentum-push`."""

from momentum_push.cli import main

if __name__ == "__main__":
    main()
