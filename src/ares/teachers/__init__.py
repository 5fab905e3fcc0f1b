"""AI Teachers: they score sentences, repair rationales and compare them."""
