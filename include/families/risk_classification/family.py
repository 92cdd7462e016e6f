"""The family's class: its tables. Its sources are declared in family.yaml."""

from include.families.declared_data import DeclaredData
from include.families.risk_classification import schema


class RiskClassification(DeclaredData):
    """Accident reports and their classes."""

    SCHEMAS = schema.SCHEMAS
    SLICES = {"label": "label"}
