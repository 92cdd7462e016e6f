"""The family's class: its tables. Its source is declared in family.yaml."""

from include.families.declared_data import DeclaredData
from include.families.market_prediction import schema


class MarketPrediction(DeclaredData):
    """Clients of a bank."""

    SCHEMAS = schema.SCHEMAS
