"""Repositories, stores and pools; bin/make-sync makes chatdata/_sync of this folder."""
