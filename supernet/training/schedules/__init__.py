"""Trainings in several phases, each with options of its own."""
