"""Exercises: functions of this library to write oneself, each with the properties that a right answer has."""
