"""What guidance methods learn or search before they are used; one file each."""
