"""The chaos relay: a mail server that can be told to misbehave, for tests of keyrelay and of those who use it."""
