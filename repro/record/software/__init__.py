"""What is installed: distributions, their lock and wheels, system packages, mapped libraries."""
