"""Engine: a reference to state that lives in one place, and is changed only by named actions."""
