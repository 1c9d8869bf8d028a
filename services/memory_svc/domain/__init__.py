"""What memory is: values and pure rules. Imports nothing of ours but the chassis's errors and ids."""
