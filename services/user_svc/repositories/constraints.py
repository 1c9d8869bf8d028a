"""What a broken unique constraint means to the caller."""

from sqlalchemy.exc import IntegrityError

from chassis.errors import AlreadyExists

# Constraint → the field that it makes unique.
_FIELDS = {"organizations_name": "name", "users_name": "name", "users_email": "email"}


def name_taken(error: IntegrityError) -> Exception:
    """AlreadyExists NAME_TAKEN naming the field; the error itself when it is about something else."""
    constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    field = _FIELDS.get(constraint or "")
    if field is None:
        return error
    return AlreadyExists(f"this {field} is taken", reason="NAME_TAKEN", metadata={"field": field})
