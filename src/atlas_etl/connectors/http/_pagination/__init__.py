"""How pages follow each other: pure, requests go out and pages come in."""
