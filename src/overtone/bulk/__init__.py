"""Enhancing many files: which, where to, what is done already, and the engines that do it."""
