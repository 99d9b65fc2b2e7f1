output "name" {
  description = "Name of the dashboard."
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}

output "titles" {
  description = "Titles of the charts, in reading order."
  value       = [for chart in local.charts : chart.title]
}
