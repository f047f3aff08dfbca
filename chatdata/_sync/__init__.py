"""Repositories and stores; bin/make-sync makes chatdata/_sync of this folder."""
