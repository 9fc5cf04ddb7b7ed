"""What all sections of the configuration have in common: `settings.py` puts them together, each kind of PBX has its own."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """One section of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
