"""The family's class: its tables. Its source is declared in family.yaml."""

from include.families.declared_data import DeclaredData
from include.families.demand_forecasting import schema


class DemandForecasting(DeclaredData):
    """Hours of bicycle rentals."""

    SCHEMAS = schema.SCHEMAS
