//! The dashboard for Grafana.

use serde_json::{Value, json};

/// Number of columns of the grid.
const COLUMNS: u32 = 24;

/// The visualisation of a panel.
#[derive(Clone, Copy)]
enum Shape {
    /// The newest value of each series, in colours.
    Stat,
    /// A graph over time.
    Graph,
}

struct Panel {
    title: &'static str,
    about: &'static str,
    shape: Shape,
    width: u32,
    unit: &'static str,
    /// Values from which it is yellow and red.
    limits: Option<(f64, f64)>,
    /// Queries, each with the legend of its series.
    queries: &'static [(&'static str, &'static str)],
}

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// The dashboard, which is also in `packaging/grafana/kaleem-dr.json`.
#[must_use]
pub fn dashboard() -> String {
    let (mut x, mut y) = (0, 0);
    let mut panels = Vec::new();
    for (id, panel) in PANELS.iter().enumerate() {
        if x + panel.width > COLUMNS {
            (x, y) = (0, y + 8);
        }
        panels.push(panel.json(id + 1, x, y));
        x += panel.width;
    }
    let dashboard = json!({
        "uid": "kaleem-dr",
        "title": "kaleem-dr",
        "tags": ["backup"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "refresh": "1m",
        "time": { "from": "now-30d", "to": "now" },
        "templating": { "list": [
            { "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus" },
            {
                "name": "instance",
                "label": "Host",
                "type": "query",
                "datasource": { "type": "prometheus", "uid": "${datasource}" },
                "query": "label_values(kaleem_dr_build_info, instance)",
                "refresh": 2,
                "multi": true,
                "includeAll": true,
                "current": { "text": "All", "value": "$__all" },
            },
        ] },
        "panels": panels,
    });
    format!("{dashboard:#}\n")
}

impl Panel {
    fn json(&self, id: usize, x: u32, y: u32) -> Value {
        let source = json!({ "type": "prometheus", "uid": "${datasource}" });
        let targets: Vec<Value> = self
            .queries
            .iter()
            .enumerate()
            .map(|(at, (query, legend))| {
                json!({ "refId": format!("Q{at}"), "datasource": source, "expr": query, "legendFormat": legend })
            })
            .collect();
        let mut defaults = json!({ "unit": self.unit, "color": { "mode": "palette-classic" } });
        if let Some((yellow, red)) = self.limits {
            defaults["color"]["mode"] = "thresholds".into();
            defaults["thresholds"] = json!({ "mode": "absolute", "steps": [
                { "color": "green", "value": null },
                { "color": "yellow", "value": yellow },
                { "color": "red", "value": red },
            ] });
        }
        let (kind, options) = match self.shape {
            Shape::Stat => (
                "stat",
                json!({ "reduceOptions": { "calcs": ["lastNotNull"] }, "colorMode": "background" }),
            ),
            Shape::Graph => (
                "timeseries",
                json!({ "legend": { "displayMode": "list", "placement": "bottom" } }),
            ),
        };
        json!({
            "id": id,
            "type": kind,
            "title": self.title,
            "description": self.about,
            "datasource": source,
            "gridPos": { "x": x, "y": y, "w": self.width, "h": 8 },
            "targets": targets,
            "fieldConfig": { "defaults": defaults, "overrides": [] },
            "options": options,
        })
    }
}

const PANELS: [Panel; 13] = [
    Panel {
        title: "Newest run of each job",
        about: "Exit status: 0 done, 3 done in part, anything else failed.",
        shape: Shape::Stat,
        width: 12,
        unit: "none",
        limits: Some((1.0, 3.0)),
        queries: &[(
            "kaleem_dr_last_run_status{instance=~\"$instance\",source=\"\"}",
            "{{kind}} {{repository}}",
        )],
    },
    Panel {
        title: "Newest backup of each source",
        about: "Exit status: 0 done, 3 done in part, anything else failed.",
        shape: Shape::Stat,
        width: 12,
        unit: "none",
        limits: Some((1.0, 3.0)),
        queries: &[(
            "kaleem_dr_last_run_status{instance=~\"$instance\",kind=\"backup\",source!=\"\"}",
            "{{source}} {{repository}}",
        )],
    },
    Panel {
        title: "RPO: age of the newest point",
        about: "Data that would be lost if the source were lost now.",
        shape: Shape::Stat,
        width: 8,
        unit: "s",
        limits: Some((25.0 * HOUR, 26.0 * HOUR)),
        queries: &[(
            "time() - max by (instance, source) (kaleem_dr_newest_point_timestamp_seconds{instance=~\"$instance\"})",
            "{{source}}",
        )],
    },
    Panel {
        title: "Age of the newest point proven",
        about: "By level of proof: parsed points are valid in their own format, restored points were loaded and compared.",
        shape: Shape::Stat,
        width: 8,
        unit: "s",
        limits: Some((8.0 * DAY, 32.0 * DAY)),
        queries: &[(
            "time() - max by (instance, source, level) \
             (kaleem_dr_newest_proven_timestamp_seconds{instance=~\"$instance\",level=~\"parsed|restored\"})",
            "{{source}} {{level}}",
        )],
    },
    Panel {
        title: "Active alarms",
        about: "Data that look lost or encrypted; nothing is forgotten or pruned until the operator acknowledges the alarm.",
        shape: Shape::Stat,
        width: 8,
        unit: "none",
        limits: Some((1.0, 1.0)),
        queries: &[("kaleem_dr_alarms{instance=~\"$instance\"}", "{{source}}")],
    },
    Panel {
        title: "RTO, measured and forecast",
        about: "Duration of the newest restore into a scratch target, and the forecast for today's size.",
        shape: Shape::Graph,
        width: 12,
        unit: "s",
        limits: None,
        queries: &[
            (
                "kaleem_dr_rto_measured_seconds{instance=~\"$instance\"}",
                "{{source}} {{repository}} measured",
            ),
            (
                "kaleem_dr_rto_forecast_seconds{instance=~\"$instance\"}",
                "{{source}} {{repository}} forecast",
            ),
        ],
    },
    Panel {
        title: "Duration of runs",
        about: "Duration of each job, and of each source's backup.",
        shape: Shape::Graph,
        width: 12,
        unit: "s",
        limits: None,
        queries: &[(
            "kaleem_dr_run_duration_seconds{instance=~\"$instance\"}",
            "{{kind}} {{source}} {{repository}}",
        )],
    },
    Panel {
        title: "Size of sources",
        about: "Captured bytes.",
        shape: Shape::Graph,
        width: 12,
        unit: "bytes",
        limits: None,
        queries: &[(
            "kaleem_dr_source_bytes{instance=~\"$instance\"}",
            "{{source}} {{repository}}",
        )],
    },
    Panel {
        title: "Added by each backup",
        about: "Bytes that are new to the repository.",
        shape: Shape::Graph,
        width: 12,
        unit: "bytes",
        limits: None,
        queries: &[("kaleem_dr_added_bytes{instance=~\"$instance\"}", "{{source}} {{repository}}")],
    },
    Panel {
        title: "Time since the newest successful drill",
        about: "Run a drill at least once a month.",
        shape: Shape::Stat,
        width: 6,
        unit: "s",
        limits: Some((31.0 * DAY, 32.0 * DAY)),
        queries: &[(
            "time() - kaleem_dr_drill_last_success_timestamp_seconds{instance=~\"$instance\"}",
            "{{repository}}",
        )],
    },
    Panel {
        title: "Restores that were not equal",
        about: "In the newest drill of each source.",
        shape: Shape::Stat,
        width: 6,
        unit: "none",
        limits: Some((1.0, 1.0)),
        queries: &[(
            "kaleem_dr_drill_mismatches{instance=~\"$instance\"}",
            "{{source}} {{repository}}",
        )],
    },
    Panel {
        title: "Mirrors: time since the newest successful pass",
        about: "The mirror contains everything that was saved before.",
        shape: Shape::Stat,
        width: 6,
        unit: "s",
        limits: Some((25.0 * HOUR, 26.0 * HOUR)),
        queries: &[(
            "time() - kaleem_dr_mirror_synced_timestamp_seconds{instance=~\"$instance\"}",
            "{{repository}}",
        )],
    },
    Panel {
        title: "Mirrors: lag behind the newest backup",
        about: "0 when the newest backup is in the mirror.",
        shape: Shape::Stat,
        width: 6,
        unit: "s",
        limits: Some((2.0 * HOUR, 26.0 * HOUR)),
        queries: &[("kaleem_dr_mirror_lag_seconds{instance=~\"$instance\"}", "{{repository}}")],
    },
];
