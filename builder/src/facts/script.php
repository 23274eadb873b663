<?php
// Prints what a Laravel application says about itself, as one line of JSON. Run in its folder, with
// dependencies installed. Each part stands on its own: one that fails gives its error instead.
// Needs PHP 7.3; Laravel 8 and later.

ini_set('display_errors', 'stderr');
// What the application prints while it boots is none of the answer.
ob_start();

$facts = ['facts' => 1, 'php' => PHP_VERSION];
$folder = getcwd();
$temporary = sys_get_temp_dir() . '/relstore-facts-' . getmypid();
@mkdir($temporary, 0700);

// Also after exit() or a fatal error.
register_shutdown_function(function () use (&$facts, $temporary, $folder) {
    $parts = ['laravel', 'routes', 'schedule', 'config', 'env'];
    $last = error_get_last();
    $fatal = $last !== null && ($last['type'] & (E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR));
    $reason = $fatal ? $last['message'] : 'the application ended PHP';
    foreach ($parts as $part) {
        if (!isset($facts[$part])) {
            $facts[$part] = ['error' => relstore_message($reason, $folder)];
        }
    }
    relstore_remove($temporary);
    while (ob_get_level() > 0 && @ob_end_clean()) {
    }
    $flags = JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE | JSON_PARTIAL_OUTPUT_ON_ERROR;
    fwrite(STDOUT, "\n" . json_encode($facts, $flags) . "\n");
});

function relstore_message($text, $folder)
{
    $text = str_replace([$folder . '/', $folder], '', trim(preg_replace('/\s+/', ' ', $text)));
    return substr($text, 0, 300);
}

function relstore_remove($folder)
{
    foreach ((array) glob($folder . '/*') as $entry) {
        is_dir($entry) ? relstore_remove($entry) : @unlink($entry);
    }
    @rmdir($folder);
}

function relstore_set($name, $value)
{
    putenv("$name=$value");
    $_ENV[$name] = $_SERVER[$name] = $value;
}

// Caches that lie in the folder could be of another version, and it may be read-only.
foreach (['CONFIG', 'EVENTS', 'PACKAGES', 'ROUTES', 'SERVICES'] as $cache) {
    relstore_set("APP_{$cache}_CACHE", "$temporary/" . strtolower($cache) . '.php');
}
relstore_set('VIEW_COMPILED_PATH', $temporary);

$part = function ($name, $find) use (&$facts, $folder) {
    try {
        $facts[$name] = ['value' => $find()];
    } catch (\Throwable $error) {
        $facts[$name] = ['error' => relstore_message(get_class($error) . ': ' . $error->getMessage(), $folder)];
    }
};

// Keys of .env.example and of env() calls in config/: which variables the application reads.
$part('env', function () use ($folder) {
    $keys = [];
    $key = function ($name, $what) use (&$keys) {
        if (!isset($keys[$name])) {
            $keys[$name] = ['name' => $name, 'example' => false, 'config' => false, 'default' => false];
        }
        $keys[$name][$what] = true;
    };
    if (is_file("$folder/.env.example")) {
        preg_match_all('/^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=/m', file_get_contents("$folder/.env.example"), $found);
        foreach ($found[1] as $name) {
            $key($name, 'example');
        }
    }
    if (is_dir("$folder/config")) {
        $files = new RecursiveIteratorIterator(new RecursiveDirectoryIterator("$folder/config", FilesystemIterator::SKIP_DOTS));
        foreach ($files as $file) {
            if ($file->getExtension() !== 'php') {
                continue;
            }
            $tokens = array_values(array_filter(token_get_all(file_get_contents($file->getPathname())), function ($token) {
                return !is_array($token) || !in_array($token[0], [T_WHITESPACE, T_COMMENT, T_DOC_COMMENT], true);
            }));
            foreach ($tokens as $at => $token) {
                $before = $tokens[$at - 1] ?? null;
                $called = is_array($token) && ltrim($token[1], '\\') === 'env'
                    && ($tokens[$at + 1] ?? null) === '('
                    && is_array($tokens[$at + 2] ?? null) && $tokens[$at + 2][0] === T_CONSTANT_ENCAPSED_STRING;
                if (!$called || (is_array($before) && in_array($before[0], [T_OBJECT_OPERATOR, T_DOUBLE_COLON, T_FUNCTION], true))) {
                    continue;
                }
                $name = trim($tokens[$at + 2][1], "'\"");
                $key($name, 'config');
                if (($tokens[$at + 3] ?? null) === ',') {
                    $key($name, 'default');
                }
            }
        }
    }
    ksort($keys);
    return array_values($keys);
});

$app = null;
$kernel = null;
$part('laravel', function () use (&$app, &$kernel, $folder) {
    require_once "$folder/vendor/autoload.php";
    $app = require "$folder/bootstrap/app.php";
    $kernel = $app->make('Illuminate\Contracts\Console\Kernel');
    $kernel->bootstrap();
    return $app->version();
});
$booted = isset($facts['laravel']['value']);
$needs = function ($find) use (&$app, &$kernel, $booted) {
    return function () use ($find, &$app, &$kernel, $booted) {
        if (!$booted) {
            throw new RuntimeException('the application does not boot');
        }
        return $find($app, $kernel);
    };
};

$part('routes', $needs(function ($app) {
    $routes = [];
    foreach ($app->make('router')->getRoutes() as $route) {
        try {
            $middleware = $route->gatherMiddleware();
        } catch (\Throwable $error) {
            // Of a controller that cannot be made; what the route itself says is known.
            $middleware = $route->middleware();
        }
        $middleware = array_map(function ($one) {
            return is_string($one) ? $one : (is_object($one) ? get_class($one) : gettype($one));
        }, array_values((array) $middleware));
        $routes[] = [
            'methods' => array_values($route->methods()),
            'uri' => $route->uri(),
            'name' => $route->getName(),
            'action' => ltrim($route->getActionName(), '\\'),
            'domain' => $route->getDomain(),
            'middleware' => $middleware,
        ];
    }
    return $routes;
}));

$part('schedule', $needs(function ($app, $kernel) {
    // Some versions fill the schedule when the commands are collected.
    $kernel->all();
    $binaries = [];
    foreach (['phpBinary' => 'php', 'artisanBinary' => 'artisan'] as $method => $name) {
        $binary = call_user_func(['Illuminate\Console\Application', $method]);
        $binaries[$binary] = $name;
    }
    $events = [];
    foreach ($app->make('Illuminate\Console\Scheduling\Schedule')->events() as $event) {
        $timezone = $event->timezone;
        $events[] = [
            'expression' => $event->expression,
            'command' => $event->command === null ? null : strtr($event->command, $binaries),
            'description' => $event->description,
            'timezone' => $timezone instanceof DateTimeZone ? $timezone->getName() : $timezone,
            'environments' => array_values((array) $event->environments),
            'without_overlapping' => (bool) $event->withoutOverlapping,
            'on_one_server' => (bool) $event->onOneServer,
            'in_background' => (bool) $event->runInBackground,
            'even_in_maintenance_mode' => (bool) $event->evenInMaintenanceMode,
        ];
    }
    return $events;
}));

// Names alone: values are secrets. Some names are paths.
$part('config', $needs(function ($app) use ($folder) {
    $names = [];
    $walk = function ($values, $prefix) use (&$walk, &$names, $folder) {
        foreach ($values as $name => $value) {
            $path = $prefix . $name;
            $list = is_array($value) && array_keys($value) === range(0, max(0, count($value) - 1));
            if (is_array($value) && $value !== [] && !$list) {
                $walk($value, "$path.");
            } else {
                $names[] = str_replace("$folder/", '', $path);
            }
        }
    };
    $walk($app->make('config')->all(), '');
    sort($names, SORT_STRING);
    return $names;
}));
