"""Where the student fails: probe, grade, attribute, name the skills."""
