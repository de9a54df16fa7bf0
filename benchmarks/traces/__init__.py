"""What traces cost: written beside an answer, listed by the hundred thousand, decided once more by the thousand."""
