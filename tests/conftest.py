"""What holds for all tests."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts into the background with SIGINT ignored, and programs started by
    # a test would inherit that, and never see the Ctrl-C that the test is about.
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytest_jobrunner", "pytester"]  # ours also where nothing is installed
