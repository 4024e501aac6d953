"""The locations of Vertex AI, and the nearest one to a name that is not among them."""

SOURCE = "Google's discovery document for aiplatform v1"
REVISION = "2026-11-06"
"""Date of that document; Google adds locations, so an unknown one is a warning and never an error."""

MULTI_REGIONS = ("us", "eu")
REGIONS = (
    "africa-south1", "asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3",
    "asia-south1", "asia-south2", "asia-southeast1", "asia-southeast2", "asia-southeast3", "australia-southeast1",
    "australia-southeast2", "europe-central2", "europe-north1", "europe-north2", "europe-southwest1", "europe-west1",
    "europe-west10", "europe-west12", "europe-west15", "europe-west2", "europe-west3", "europe-west4", "europe-west6",
    "europe-west8", "europe-west9", "me-central1", "me-central2", "me-west1", "northamerica-northeast1",
    "northamerica-northeast2", "southamerica-east1", "southamerica-west1", "us-central1", "us-central2", "us-east1",
    "us-east4", "us-east5", "us-east7", "us-south1", "us-west1", "us-west2", "us-west3", "us-west4", "us-west8",
)  # fmt: skip
LOCATIONS = ("global", *MULTI_REGIONS, *REGIONS)


def nearest(name: str) -> str:
    """Return the location that `name` resembles most, "" when it resembles none."""
    import difflib  # here, because only a wrong name needs it

    plain = name.lower().replace("_", "-").strip("-")
    return next(iter(difflib.get_close_matches(plain, LOCATIONS, 1, 0.6)), "")
