"""What passes between us and an API, and what may go wrong there, whoever asks and whatever for."""
