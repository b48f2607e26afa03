"""The AWS backend on stand-ins, for tests."""
