#ifndef PYRKT_JSON_H
#define PYRKT_JSON_H

#include <Python.h>
#include <stdbool.h>
#include <stddef.h>

PyObject *PyInit__pyrkt_json(void);

#endif
