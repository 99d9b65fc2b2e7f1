"""GET /v1/admin/usage: who spent what, by key, model and day."""

import os
from functools import cache

from functions.admin_usage.settings import AdminUsageSettings
from sluice.runtime import accounting
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.read_usage import GROUPS, ReportUsage
from sluice.wire.usage import UsageReportObject, groups


@before_snapshot
@cache
def service() -> ReportUsage:
    """Built once per container."""
    return accounting.report_usage(load(AdminUsageSettings, os.environ))


@api_function
def handler(request: ApiRequest) -> ApiResponse:
    """Report the days, the key and the groups that the query names."""
    query = request.query
    report = service().report(
        first=query.get("from"),
        last=query.get("to"),
        key_id=query.get("key_id"),
        group_by=groups(query.get("group_by")) or GROUPS,
    )
    return ApiResponse(200, UsageReportObject.of(report))
