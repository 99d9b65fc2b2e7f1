"""A synthetic set of sales leads: 50 features each, and whether the lead became a customer.

It is drawn from a seed, so every machine trains on the same leads. The truth behind the labels is a
weighted sum with two interactions and noise: learnable, but not by a glance at one feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["flag", "share", "count", "size"]

SEED = 20_261_121
LEADS = 6_000

# Kind and shape of the distribution, then names with the weight each has in the truth.
_GROUPS: tuple[tuple[Kind, float, dict[str, float]], ...] = (
    (
        "size",
        1.0,
        {
            "employees": 0.5,
            "annual_revenue": 0.6,
            "funding_raised": 0.2,
            "growth_rate": 0.4,
            "years_in_business": 0.1,
            "open_positions": 0.3,
            "it_budget": 0.5,
            "offices": 0.0,
            "expected_seats": 0.6,
            "deal_value": 0.3,
        },
    ),
    (
        "count",
        3.0,
        {
            "website_visits": 0.4,
            "pricing_page_views": 0.9,
            "docs_page_views": 0.3,
            "blog_views": 0.0,
            "emails_opened": 0.2,
            "emails_clicked": 0.4,
            "webinars_attended": 0.4,
            "whitepapers_downloaded": 0.2,
            "support_questions": 0.1,
            "calls_answered": 0.5,
            "meetings_held": 0.8,
            "colleagues_signed_up": 0.5,
            "trial_logins": 0.9,
            "api_calls_in_trial": 0.7,
            "integrations_tried": 0.4,
            "social_mentions": 0.0,
            "referrals": 0.5,
            "competitor_mentions": -0.4,
            "unsubscribes": -0.6,
            "bounced_emails": -0.5,
        },
    ),
    (
        "flag",
        0.3,
        {
            "is_decision_maker": 0.7,
            "is_technical": 0.1,
            "has_budget": 0.8,
            "has_timeline": 0.6,
            "asked_for_demo": 0.8,
            "asked_for_quote": 0.9,
            "uses_competitor": -0.3,
            "was_customer": 0.4,
            "free_email_address": -0.6,
            "in_served_region": 0.5,
            "in_target_industry": 0.5,
            "is_student": -0.8,
        },
    ),
    (
        "share",
        2.0,
        {
            "profile_completeness": 0.2,
            "industry_match": 0.4,
            "title_match": 0.4,
            "technology_match": 0.4,
            "recency_of_contact": 0.6,
            "reply_rate": 0.5,
            "attendance_rate": 0.3,
            "trial_usage": 0.7,
        },
    ),
)

FEATURES: tuple[str, ...] = tuple(name for _, _, group in _GROUPS for name in group)


@dataclass(frozen=True)
class LeadSet:
    """``features`` has shape (leads, 50); ``won`` is 1 for a lead that became a customer."""

    features: npt.NDArray[np.float32]
    won: npt.NDArray[np.float32]


def draw(count: int = LEADS, seed: int = SEED) -> LeadSet:
    """Draw ``count`` leads; the same seed gives the same leads."""
    rng = np.random.default_rng(seed)
    columns = [_column(rng, kind, shape, count) for kind, shape, group in _GROUPS for _ in group]
    features = np.stack(columns, axis=1)
    weights = np.array([weight for _, _, group in _GROUPS for weight in group.values()])
    # In a handful of leads a rare flag may be the same for all.
    spread = np.maximum(features.std(axis=0), 1e-9)
    scaled = (features - features.mean(axis=0)) / spread
    at = {name: scaled[:, i] for i, name in enumerate(FEATURES)}
    interest = scaled @ weights
    interest += 0.8 * at["trial_usage"] * at["has_budget"]
    interest -= 0.6 * at["uses_competitor"] * at["competitor_mentions"]
    interest += rng.normal(0, 1.0, count)
    # A little under a third of leads are won.
    won = interest > np.quantile(interest, 0.7)
    return LeadSet(features.astype(np.float32), won.astype(np.float32))


def _column(rng: np.random.Generator, kind: Kind, shape: float, count: int) -> npt.NDArray[np.float64]:
    match kind:
        case "flag":
            return (rng.random(count) < shape).astype(np.float64)
        case "share":
            return rng.beta(shape, shape, count)
        case "count":
            return rng.poisson(shape, count).astype(np.float64)
        case "size":
            return rng.lognormal(0.0, shape, count)
